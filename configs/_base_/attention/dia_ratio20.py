attention = dict(type='DIA', ratio=20)
