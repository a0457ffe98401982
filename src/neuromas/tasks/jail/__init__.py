"""What runs inside the sandbox: three small processes for each generated program. `docs/sandbox.md` tells the whole.

`supervisor` (trusted) forks two others and outlives them. `checker` reads the job, runs the benchmark's tests, and
reports. `program` runs the generated code and answers the checker's calls with plain data. The two see nothing of each
other but one pipe in each direction. Nothing here imports anything but the standard library, and nothing outside this
folder is loaded, so that the processes start fast and know nothing.
"""
