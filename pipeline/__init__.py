"""How it is run: graph, plan, runner, store, configuration, command line."""
