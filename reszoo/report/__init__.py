"""Reports of finished runs: `python -m reszoo.report WORKDIR [WORKDIR ...]`."""

from reszoo.report.page import show as show
from reszoo.report.write import write_report as write_report
