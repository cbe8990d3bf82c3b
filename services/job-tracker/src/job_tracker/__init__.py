"""The job tracker: owns jobs, their pages and document sets, and decides when a job is done."""
