"""The three small processes of the sandbox, started for each generated program; see `docs/sandbox.md`.

`supervisor` (trusted) forks two others and outlives them. `checker` reads the submission, runs the benchmark's tests,
and reports. `program` runs the generated code and answers the checker's calls with plain data. The two see nothing of
each other but one pipe in each direction. Only the standard library and this folder are loaded, so that the processes
start fast and know nothing.
"""
