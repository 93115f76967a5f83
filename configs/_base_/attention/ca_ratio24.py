attention = dict(type='CA', ratio=24)
