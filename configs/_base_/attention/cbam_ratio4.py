attention = dict(type='CBAM', ratio=4)
