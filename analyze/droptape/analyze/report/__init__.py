"""`droptape report`: one HTML page that needs nothing else.

cube.py counts, gather.py asks the rest, pictures.py says how the counts are drawn (Altair), page.py
puts it together with what is in `assets`.
"""
