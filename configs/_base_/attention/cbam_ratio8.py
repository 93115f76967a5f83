attention = dict(type='CBAM', ratio=8)
