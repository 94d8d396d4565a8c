"""AWS and Thrive on one machine, for the demo, the tests and the benchmarks. README.md says what each folder is."""


class SandboxError(RuntimeError):
    """Something cannot be built, started, deployed or sent on this machine; the text says what, for people."""
