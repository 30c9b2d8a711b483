"""A resumable queue of work: cohorts of virtual patients and batches of studies run in one."""
