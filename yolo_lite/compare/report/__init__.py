"""The report of a comparison: a folder's small files in, tables, plots and one HTML page out.

tables.py  everything that is reported, as one dictionary; CSV, JSON and Markdown
plots.py   the plots
page.py    the HTML page
"""
