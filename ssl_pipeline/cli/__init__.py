"""The `ssl-pipeline` command, a module for each group of subcommands."""
