attention = dict(type='SE', ratio=16)
