"""How dates are written in each language, on the pages and in the administration (FORMAT_MODULE_PATH).

Besides Django's own names there are: LONG_DATETIME_FORMAT, for titles; EXACT_DATETIME_FORMAT and
EXACT_TIME_FORMAT, to the second; and MONTH_DAY_TIME_FORMAT, where the year goes without saying.
"""
