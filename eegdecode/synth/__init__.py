"""Synthetic studies with a planted effect: real files in the layouts of labs, one module a study.

    python -m hpc.launch synthesize configs/synthesize/motor.yaml

With `effect: 0` a study has the same noise and no effect: anything decoded from it is due to a leak, or to chance.
"""
