"""What a cohort keeps of its patients and where; `simulate.cohort` makes it."""
