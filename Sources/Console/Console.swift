// Options, help, results, errors and exit codes of every command.
