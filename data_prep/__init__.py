"""Convert raw Figshare-style `.mat` slices into a data set folder that MONAI reads, and generate phantom slices.

`python -m data_prep --help` lists the commands; `data_prep.convert.convert` and `data_prep.phantom.write_phantoms` do
the same from Python. Nothing here needs torch or MONAI.
"""
