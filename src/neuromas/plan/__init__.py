"""What a run needs before it is started: memory and seconds a step, and what to change where they do not fit.

`model` and `work` say what is computed, `memory` and `seconds` are arithmetic on that, `calibrate` measures this
machine, `advice` looks for settings that fit, `report` puts it together.
"""
