"""The flags of each job, and which of them go together: what a command and the run behind it both need."""
