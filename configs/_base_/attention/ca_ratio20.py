attention = dict(type='CA', ratio=20)
