attention = dict(type='CA', ratio=16)
