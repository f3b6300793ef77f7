"""The Jobs tab: pages of the web UI, made on the server. They ask ``control`` and ``service``, as the REST API does."""
