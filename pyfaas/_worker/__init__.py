"""What runs on the far side of the fork: never imported by the host."""
