"""Answers to questions about gradients in residual networks: `python -m reszoo.studies`.

Each study varies something, measures it, and draws it. Its cells, one for each point of what it
varies, are measured in processes of their own; `docs/answers.md` is written from the tables.

- `study`: the parts of a study; `catalog`: all studies by name
- `driver`: measures cells and resumes after a kill; `cell_files`: the result of each
- `results`: tables, figures and the summary
- `answers`: writes the document from tables and `texts/`, one file a question
- `intervals`, `drawing`: means over seeds; colours and what several figures draw
- `live_page`: three recorded runs as one page, for the site
- `networks`: networks of several studies, on digits or CIFAR-10, run block by block
- `trained_cell`: training by a configuration, as `train.py` does it, and what is read from its log
- `recipes`: fields of these configurations: digits, Fashion-MNIST and CIFAR-10

The studies, by question:

- 1 `stop_gradient`: a stopped skip, against no skip, a whole one, and other stops
- 2 `addition`: an addition hands its gradient to both inputs, and a branch's weights are updated
- 3 `bus`: what each block keeps of the gradient, and what it adds
- 4 `shortcut_table`: the shortcuts of He et al. 2016, and a stopped one
- 4 `gradient_by_depth`: the gradient vanishes or explodes in plain networks, not in residual ones
- 4 `variance_growth`: normalized branches add the same to the signal at each depth
- 4 `gradient_correlation`: gradients of nearby inputs become noise without skips
- 4 `path_lengths`: the gradient by the number of branches on its path
- 4 `lesioning`: error of a trained network without some of its blocks
- 5 `reversible` (`step_memory`: the memory of one step): inputs stored, or computed back
- 6 `derivatives`: gradients are added, not averaged, and come from reverse mode
- 7 `distance`: skips past any layers and over any distance; the sum over all ways
- 8 `input_skip`: a skip that starts at the input of the network
- 9 `constant_skip`: the skip's derivative is not zero; as a constant it is a stopped gradient
- 10 `projections`: projections are transposed, zero padding is cropped
"""
