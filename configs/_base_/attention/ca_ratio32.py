attention = dict(type='CA', ratio=32)
