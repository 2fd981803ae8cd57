"""From tables to a cohort: every row used, collapsed or refused."""
