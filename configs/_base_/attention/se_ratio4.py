attention = dict(type='SE', ratio=4)
