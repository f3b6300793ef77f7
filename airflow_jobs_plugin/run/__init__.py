"""What happens inside a run: the operators, the retry policy, and how results are kept and read."""
