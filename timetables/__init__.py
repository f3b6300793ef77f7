"""When jobs run: the pure arithmetic (``recurrence``) and the Airflow timetable around it (``job``)."""
