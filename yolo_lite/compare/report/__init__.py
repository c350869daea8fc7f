"""The report of a comparison: a folder's small files in, tables, plots and one HTML page out.

results.py    everything that is reported, and results.json in all its formats
notes.py      what a reader has to know of how the figures came about
tables.py     CSV, JSON and Markdown
figures.py    what the plots show; labels.py: where names beside points go; plots.py: how it is drawn
page.py       the HTML page, from page.html.j2, style.css and script.js
"""
