attention = dict(type='SE', ratio=24)
