attention = dict(type='CA', ratio=8)
