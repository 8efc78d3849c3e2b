"""Reports on a job: its progress while it runs, its result when it ends."""
