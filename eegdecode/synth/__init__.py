"""Made-up studies with a planted effect: real files in the layouts that labs have, one module a study.

    python -m hpc.launch synthesize configs/synthesize/motor.yaml

With `effect: 0` a study has the very same noise and nothing to find: what is decoded there is a leak, or chance.
"""
