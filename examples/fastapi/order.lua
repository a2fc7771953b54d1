-- Every request posts the same small order.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"customer":"c-1042","items":[{"name":"bolt","price":0.12,"count":400},' ..
  '{"name":"plate","price":14.5,"count":12},{"name":"hinge","price":3.75,"count":8},{"name":"screw","price":0.05,"count":900}]}'
