"""Pictures of the documents, made from the page as it is: `python -m pictures WORKDIR`.

- `browser.py`: a report in Chromium, at double size and without movement
- `screenshots.py`: views of the page
- `moving_bus.py`: two runs side by side, one frame for each recorded step
"""
