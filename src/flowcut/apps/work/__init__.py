"""What the subcommands do, one file each; loaded only when the subcommand runs."""
