"""The report of a comparison: a folder's small files in, tables, plots and one HTML page out.

results.py     everything that is reported, and results.json in all its formats
recommendation.py  the model to use
notes.py       what a reader has to know of how the figures came about
search.py      the search that the models come from, where there was one
data_files.py  results.csv, results.json and summary.md
figures.py     what the plots show; labels.py: where names beside points go; plots.py: how it is drawn
page.py       report.html: its tables stand in page.html.j2; style.css, script.js
"""
