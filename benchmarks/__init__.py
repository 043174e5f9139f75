"""Benchmarks: a script for each question, and `python -m benchmarks`, which runs all of them.

- `timing.py`: interleaved rounds, quartiles, ratios, tables, memory; shared by all
- `peers.py`: other libraries, where they are installed
- `recording.py`: cost of recording, on each backend of Keras
- `models.py`: the models beside those of other libraries
- `data.py`: images per second of the input pipeline
- `scaling.py`: a cost model of several devices, and measured processes
- `gradient_flow_page.py`: times of the TensorBoard page in a browser
- `accelerator.py`: recording on a GPU or TPU
"""
