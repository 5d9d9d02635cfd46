"""The engines that Beam pipelines run on besides this process: their settings, jobs and servers."""
