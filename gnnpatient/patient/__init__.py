"""One patient: the trajectory, the reasons, the page."""
