import minitransformer  # noqa: F401 - first: it shields the imports of a job, which take seconds, from Ctrl-C
