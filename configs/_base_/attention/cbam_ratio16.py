attention = dict(type='CBAM', ratio=16)
