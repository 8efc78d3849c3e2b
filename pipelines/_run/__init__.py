"""Running a pipeline, locally and on clusters."""
