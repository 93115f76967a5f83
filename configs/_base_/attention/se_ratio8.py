attention = dict(type='SE', ratio=8)
