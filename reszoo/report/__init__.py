"""Reports of finished runs: `python -m reszoo.report WORKDIR [WORKDIR ...]`.

- `page`: the Gradient Flow page as one HTML file, or in a notebook
- `figure`: the figure of a run, for a paper
- `write`: all files of a report
"""

from reszoo.report.page import show as show
from reszoo.report.write import write_report as write_report
