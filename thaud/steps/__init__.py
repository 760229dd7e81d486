"""The heavy steps, each a child process: `python -m thaud.steps.train|export|exam SPEC`. See contract.py."""
