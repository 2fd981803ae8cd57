"""What a cohort's tables mean: the TOML, nothing else."""
