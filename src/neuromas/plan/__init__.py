"""The memory and the seconds that a run needs, told before it is started, and what to change where they do not fit.

`model` and `work` say what is computed, `memory` and `seconds` are arithmetic on that, `calibrate` measures this
machine, `advice` looks for settings that fit, `report` puts it together.
"""
