"""The report of a comparison: turns the small files in its folder into tables, plots and one HTML page.

results.py     all results, and results.json in all its formats
recommendation.py  the model to use
notes.py       notes on how the results were obtained
search.py      the search that the models come from, if there was one
data_files.py  results.csv, results.json and summary.md
figures.py     content of the plots; labels.py: placement of names beside points; plots.py: drawing
page.py        report.html, with its tables in page.html.j2; style.css, script.js
"""
