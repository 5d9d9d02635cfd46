"""The orchestration: graph, plan, runner, store, configuration, command line."""
