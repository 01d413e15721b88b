"""The subcommands, one file each: light declarations only, the work is in :mod:`flowcut.apps.work`."""
