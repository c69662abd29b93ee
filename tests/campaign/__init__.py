"""A campaign against the kit (`python -m tests.campaign --help`): flips, kills, full disks, odd places."""
