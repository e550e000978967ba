"""The choke point: every provider request of the process leaves through this package."""
