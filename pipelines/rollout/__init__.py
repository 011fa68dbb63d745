"""A candidate's way from 0 to 100 % of the traffic, and back."""
